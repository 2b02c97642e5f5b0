// Package wfe starts a program "pebble" where tests make Pebble's front end in their own process.
package wfe

import (
	"crypto/tls"
	"encoding/json"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
)

// DirectoryPath is where the directory is.
const DirectoryPath = "/dir"

// Ends the program when this process has ended, whose end of the pipe is closed then.
const untilEnd = `"$@" & read -r _; kill -9 $!`

// WebFrontEndImpl passes requests on to the program, which begins with the first of them.
type WebFrontEndImpl struct {
	va *va.VAImpl
	ca *ca.CAImpl
}

// New keeps what the program is to be told.
func New(_ *log.Logger, _ *db.MemoryStore, va *va.VAImpl, ca *ca.CAImpl, _ any, _, _ bool, _, _ int) WebFrontEndImpl {
	return WebFrontEndImpl{va, ca}
}

// Handler passes every request on.
func (w WebFrontEndImpl) Handler() http.Handler {
	var start sync.Once
	directory, others := freeAddress(), freeAddress()
	proxy := &httputil.ReverseProxy{
		Rewrite: func(request *httputil.ProxyRequest) {
			request.Out.URL.Scheme, request.Out.URL.Host = "https", others
			if request.In.URL.Path == DirectoryPath {
				request.Out.URL.Host = directory
			}
			request.Out.Host = request.In.Host
		},
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
	}
	return http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		start.Do(func() { w.run(directory, others, "https://"+request.Host) })
		proxy.ServeHTTP(answer, request)
	})
}

// Starts the program, and waits until it listens.
func (w WebFrontEndImpl) run(directory, others, url string) {
	file, err := os.CreateTemp(os.Getenv("PEBBLE_DIR"), "*.json")
	check(err)
	certificates := filepath.Join(os.Getenv("PEBBLE_DIR"), "test/certs/localhost")
	check(json.NewEncoder(file).Encode(map[string]any{"pebble": map[string]any{
		"listenAddress":           directory,
		"managementListenAddress": freeAddress(),
		"certificate":             filepath.Join(certificates, "cert.pem"),
		"privateKey":              filepath.Join(certificates, "key.pem"),
		"httpPort":                w.va.HTTPPort,
		"tlsPort":                 w.va.TLSPort,
		"profiles":                w.ca.Profiles,
		"acmeListenAddress":       others, // this and the next are not Pebble's
		"url":                     url,
	}}))
	check(file.Close())
	program := exec.Command("sh", "-c", untilEnd, "sh", "pebble", "-config", file.Name(), "-dnsserver", "127.0.0.1:53")
	program.Stdout, program.Stderr = os.Stdout, os.Stderr
	_, err = program.StdinPipe()
	check(err)
	check(program.Start())
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		connection, err := net.Dial("tcp", directory)
		if err == nil {
			connection.Close()
			return
		}
		if time.Now().After(end) {
			log.Fatal(err)
		}
	}
}

func freeAddress() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	defer listener.Close()
	return listener.Addr().String()
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
