// Much of what programs in Go do: goroutines, files, children, signals, sockets on loopback, memory that is mapped.
package main

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"text/template"
	"time"
)

func need(err error) {
	if err != nil {
		panic(err)
	}
}

func threads() {
	var group sync.WaitGroup
	var sum atomic.Int64
	numbers := make(chan int)
	for worker := 0; worker < 8; worker++ {
		group.Add(1)
		go func() {
			defer group.Done()
			runtime.LockOSThread()
			for number := range numbers {
				sum.Add(int64(number))
				time.Sleep(time.Microsecond)
			}
		}()
	}
	for number := 0; number < 1000; number++ {
		numbers <- number
	}
	close(numbers)
	group.Wait()
	if sum.Load() != 499500 {
		panic("sum")
	}
	runtime.GOMAXPROCS(runtime.NumCPU())
	runtime.GC()
	debug.FreeOSMemory()
	context, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	<-context.Done()
}

func files(place string) {
	name := filepath.Join(place, "a.gz")
	file, err := os.Create(name)
	need(err)
	packed := gzip.NewWriter(file)
	fmt.Fprintln(packed, strings.Repeat("x", 100000))
	need(packed.Close())
	need(file.Sync())
	need(file.Truncate(50))
	need(syscall.Flock(int(file.Fd()), syscall.LOCK_EX))
	mapped, err := syscall.Mmap(int(file.Fd()), 0, 50, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	need(err)
	mapped[0] = 1
	need(syscall.Munmap(mapped))
	need(file.Close())
	need(os.Rename(name, name+"2"))
	need(os.Symlink("a", filepath.Join(place, "l")))
	need(os.Chmod(name+"2", 0o600))
	need(os.Chtimes(name+"2", time.Unix(1, 0), time.Unix(1, 0)))
	need(os.MkdirAll(filepath.Join(place, "b", "c"), 0o755))
	need(filepath.Walk(place, func(string, os.FileInfo, error) error { return nil }))
	from, err := os.Open("/etc/passwd")
	need(err)
	to, err := os.Create(filepath.Join(place, "copy"))
	need(err)
	_, err = io.Copy(to, from)
	need(err)
	need(os.WriteFile("/dev/null", []byte("x"), 0o600))
	need(os.RemoveAll(place))
}

func processes() {
	said, err := exec.Command("sh", "-c", "ls / | wc -l; cat", "x").CombinedOutput()
	need(err)
	if len(said) == 0 {
		panic("silence")
	}
	command := exec.Command("sleep", "60")
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	need(command.Start())
	need(command.Process.Signal(syscall.SIGTERM))
	_ = command.Wait()
	reader, writer, err := os.Pipe()
	need(err)
	go func() { fmt.Fprintln(writer, "line"); writer.Close() }()
	bufio.NewScanner(reader).Scan()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	need(syscall.Kill(os.Getpid(), syscall.SIGUSR1))
	<-signals
	_, _ = user.Current()
	_, _ = os.Hostname()
	var limit syscall.Rlimit
	need(syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	var usage syscall.Rusage
	need(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
}

func network(place string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	need(err)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hi") })}
	go func() { _ = server.Serve(listener) }()
	answer, err := http.Get("http://" + listener.Addr().String())
	need(err)
	_, err = io.ReadAll(answer.Body)
	need(err)
	need(server.Close())
	local, err := net.Listen("unix", filepath.Join(place, "socket"))
	need(err)
	go func() {
		connection, _ := local.Accept()
		fmt.Fprint(connection, "x")
		connection.Close()
	}()
	connection, err := net.Dial("unix", local.Addr().String())
	need(err)
	need(connection.SetDeadline(time.Now().Add(time.Second)))
	_, err = io.ReadAll(connection)
	need(err)
	datagrams, err := net.ListenPacket("udp", "127.0.0.1:0")
	need(err)
	_, err = datagrams.WriteTo([]byte("x"), datagrams.LocalAddr())
	need(err)
	_, _, err = datagrams.ReadFrom(make([]byte, 9))
	need(err)
	_, _ = net.LookupHost("localhost")
}

func main() {
	place, err := os.MkdirTemp("", "go")
	need(err)
	threads()
	network(place)
	files(place)
	processes()
	key := make([]byte, 32)
	_, err = rand.Read(key)
	need(err)
	sha256.Sum256(key)
	text, err := json.Marshal(map[string]any{"a": []int{1, 2}})
	need(err)
	regexp.MustCompile(`\d+`).FindAll(text, -1)
	new(big.Int).Exp(big.NewInt(3), big.NewInt(500), nil)
	names := []string{"b", "a"}
	sort.Strings(names)
	need(template.Must(template.New("t").Parse("{{range .}}{{.}}{{end}}")).Execute(io.Discard, names))
	func() {
		defer func() { _ = recover() }()
		var nothing map[string]int
		nothing["a"] = 1
	}()
	fmt.Println("done")
}
