// Package ca keeps what a test wants of the CA.
package ca

import (
	"log"

	"github.com/letsencrypt/pebble/v2/db"
)

// Profile is one of Pebble's profiles.
type Profile struct {
	Description    string
	ValidityPeriod uint64
}

// CAImpl has the profiles.
type CAImpl struct {
	Profiles map[string]Profile
}

// New keeps the profiles.
func New(_ *log.Logger, _ *db.MemoryStore, _, _ string, _, _ int, profiles map[string]Profile) *CAImpl {
	return &CAImpl{profiles}
}
