// etcd for the test cluster: a module of its own, because etcd's server is not in Kubernetes' module graph.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
