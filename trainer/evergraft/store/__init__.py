"""The object store behind one small seam, and what is kept in it: blobs, the commit log, checkpoints."""
