// The first process of a box, and the pause container of every pod: it waits, and reaps whatever is left to it.
//
// A box is a set of namespaces that stands for a machine; when this process is killed, everything in them dies,
// like a machine that loses power. It must reap: containers' shims are left to it when their parents end.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGCHLD, syscall.SIGTERM, syscall.SIGINT)
	for received := range signals {
		if received != syscall.SIGCHLD {
			os.Exit(0)
		}
		for {
			pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if err != nil || pid <= 0 {
				break
			}
		}
	}
}
