// Package check has what tests of acmez compare values with, since Debian has no package of it.
package check

import (
	"reflect"
	"testing"
)

// Equal lets a test fail at once where a value is not as wanted.
func Equal(t *testing.T, want, got any) {
	t.Helper()
	if !reflect.DeepEqual(want, got) {
		t.Fatalf("want %v, got %v", want, got)
	}
}
