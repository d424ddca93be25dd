"""Reading a store: SQL, matrices, streams of segments."""
