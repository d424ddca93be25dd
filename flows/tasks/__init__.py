"""What all flows share: attempts at every task, and what a Prefect server shows."""
