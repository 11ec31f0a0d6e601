module evergraft.dev/testcluster/box

go 1.26.0
