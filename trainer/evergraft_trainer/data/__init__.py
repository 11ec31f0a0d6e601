"""Datasets: read, pin, refuse, split, order, augment, batch.

A dataset is untrusted bytes behind a URL. ``dataset.open_dataset`` turns it into a value whose splits never change,
or refuses it in a message that names the file and the fix; ``batches`` turns a split into tensors whose bytes depend
on nothing but split, seed and position. Called by the search's worker, ``evergraft data check`` and the demo.
"""
