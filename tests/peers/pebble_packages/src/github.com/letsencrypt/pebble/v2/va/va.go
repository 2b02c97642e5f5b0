// Package va keeps where a test wants names to be validated.
package va

import (
	"log"

	"github.com/letsencrypt/pebble/v2/db"
)

// VAImpl has the ports of http-01 and tls-alpn-01.
type VAImpl struct {
	HTTPPort, TLSPort int
}

// New keeps the ports.
func New(_ *log.Logger, httpPort, tlsPort int, _ bool, _ string, _ *db.MemoryStore) *VAImpl {
	return &VAImpl{httpPort, tlsPort}
}
