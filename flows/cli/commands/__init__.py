"""The commands of `merloco`, a file each."""
