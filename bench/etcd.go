// bench/etcd.go
//
// Drives etcd for the benchmark, with the mutex of its own client: a key under a
// lease, made by a transaction; a waiter watches its predecessor.  driver.c
// describes the protocol and what is measured.
package main

import (
	"bufio"
	"context"
	"fmt"
	"log"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/clientv3"
	"go.etcd.io/etcd/clientv3/concurrency"
)

const inversion = 5 * time.Millisecond

type lockClient struct {
	client     *clientv3.Client
	session    *concurrency.Session
	mutex      *concurrency.Mutex
	asked      int64 // when it began to wait, or 0; atomic
	count      int
	inversions int
	times      []time.Duration
}

var (
	input    = bufio.NewReader(os.Stdin)
	start    = time.Now()
	clients  []*lockClient
	pause    time.Duration
	released int64 // when the shared key was; atomic
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func now() time.Duration {
	return time.Since(start)
}

func connect(key string) *lockClient {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{os.Getenv("ETCD_ENDPOINT")}})
	check(err)
	session, err := concurrency.NewSession(client)
	check(err)
	return &lockClient{client: client, session: session, mutex: concurrency.NewMutex(session, key)}
}

func (c *lockClient) close() {
	check(c.session.Close())
	check(c.client.Close())
}

func (c *lockClient) lock() {
	check(c.mutex.Lock(context.Background()))
}

func (c *lockClient) unlock() {
	check(c.mutex.Unlock(context.Background()))
}

func (c *lockClient) pairs(until time.Duration) {
	for now() < until {
		c.lock()
		c.unlock()
		c.count++
	}
}

func (c *lockClient) countInversion(since time.Duration) {
	for _, other := range clients {
		asked := atomic.LoadInt64(&other.asked)
		if asked != 0 && time.Duration(asked) < since-inversion {
			c.inversions++
			return
		}
	}
}

func (c *lockClient) handover(until time.Duration) {
	for now() < until {
		since := now()
		atomic.StoreInt64(&c.asked, int64(since))
		c.lock()
		got := now()
		atomic.StoreInt64(&c.asked, 0)
		if before := atomic.LoadInt64(&released); before != 0 {
			c.times = append(c.times, got-time.Duration(before))
		}
		c.count++
		c.countInversion(since)
		if got < until {
			time.Sleep(pause)
		}
		atomic.StoreInt64(&released, int64(now()))
		c.unlock()
	}
}

// Report our state to the caller, and wait until it has been read.
func report(what string) {
	fmt.Println(what)
	_, err := input.ReadString('\n')
	check(err)
}

func inAll(work func(*lockClient)) {
	var group sync.WaitGroup
	for _, c := range clients {
		group.Add(1)
		go func(c *lockClient) {
			work(c)
			group.Done()
		}(c)
	}
	group.Wait()
}

func printResult(elapsed time.Duration) {
	count, inversions := 0, 0
	for _, c := range clients {
		count += c.count
		inversions += c.inversions
	}
	fmt.Printf("%d %.6f %d", count, elapsed.Seconds(), inversions)
	for _, c := range clients {
		for _, t := range c.times {
			fmt.Printf(" %d", t.Microseconds())
		}
	}
	fmt.Println()
}

func run(work func(*lockClient, time.Duration), seconds float64) {
	length := time.Duration(seconds * float64(time.Second))
	inAll(func(c *lockClient) { work(c, now()+length/5) })
	for _, c := range clients {
		c.count, c.inversions, c.times = 0, 0, nil
	}
	atomic.StoreInt64(&released, 0)
	report("ready")
	begin := now()
	inAll(func(c *lockClient) { work(c, now()+length) })
	elapsed := now() - begin
	report("done")
	printResult(elapsed)
}

func runWaiters(seconds float64) {
	var group sync.WaitGroup
	holder := connect("bench/0/")
	holder.lock()
	for _, c := range clients {
		group.Add(1)
		go func(c *lockClient) {
			c.lock()
			c.unlock()
			group.Done()
		}(c)
	}
	time.Sleep(pause)
	report("ready")
	time.Sleep(time.Duration(seconds * float64(time.Second)))
	report("done")
	holder.unlock()
	group.Wait()
	holder.close()
	printResult(time.Duration(seconds * float64(time.Second)))
}

func runCommand(line string) {
	var command, peer string
	var n, pauseMs int
	var seconds float64
	fmt.Sscan(line, &command, &peer, &n, &seconds, &pauseMs)
	pause = time.Duration(pauseMs) * time.Millisecond
	clients = nil
	for i := 1; i <= n; i++ {
		key := "bench/0/"
		if command == "pairs" {
			key = fmt.Sprintf("bench/%d/", i)
		}
		clients = append(clients, connect(key))
	}
	switch command {
	case "pairs":
		run((*lockClient).pairs, seconds)
	case "handover":
		run((*lockClient).handover, seconds)
	case "waiters":
		runWaiters(seconds)
	}
	inAll((*lockClient).close)
}

func main() {
	for {
		line, err := input.ReadString('\n')
		if err != nil {
			return
		}
		runCommand(line)
	}
}
