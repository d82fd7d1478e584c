"""Reports about a dataset's own files, before anything is built."""
