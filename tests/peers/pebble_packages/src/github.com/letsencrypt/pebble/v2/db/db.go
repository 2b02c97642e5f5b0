// Package db stands where Pebble has its memory; acmems has its own.
package db

// MemoryStore is empty.
type MemoryStore struct{}

// NewMemoryStore returns one.
func NewMemoryStore() *MemoryStore {
	return &MemoryStore{}
}
