//go:build tools

// Package tools names the program that is built here: policy-controller's own tester. Its module
// replaces one of its dependencies, so that `go install` refuses it by its version alone.
package tools

import _ "github.com/sigstore/policy-controller/cmd/tester"
