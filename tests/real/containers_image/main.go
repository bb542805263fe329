// Judges images by policy.json documents with containers/image's own engine. Each line of the
// standard input asks for one verdict, and is answered with one line.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/image"
	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/types"
)

// What is asked: whether an image, named as docker names it, may run under a policy.json.
type question struct {
	Policy string `json:"policy"`
	Image  string `json:"image"`
}

// What is answered. A document that does not load is no verdict.
type answer struct {
	Loads   bool   `json:"loads"`
	Allowed bool   `json:"allowed"`
	Why     string `json:"why"`
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: containers-image REGISTRIES_D REGISTRIES_CONF")
		os.Exit(64)
	}
	system := &types.SystemContext{
		RegistriesDirPath:           os.Args[1],
		SystemRegistriesConfPath:    os.Args[2],
		DockerInsecureSkipTLSVerify: types.OptionalBoolTrue,
		DockerAuthConfig:            &types.DockerAuthConfig{},
	}
	lines := bufio.NewScanner(os.Stdin)
	answers := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var asked question
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(64)
		}
		if err := answers.Encode(judge(system, asked)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func judge(system *types.SystemContext, asked question) answer {
	policy, err := signature.NewPolicyFromFile(asked.Policy)
	if err != nil {
		return answer{Why: err.Error()}
	}
	allowed, err := allowed(system, policy, asked.Image)
	verdict := answer{Loads: true, Allowed: allowed}
	if err != nil {
		verdict.Why = err.Error()
	}
	return verdict
}

func allowed(system *types.SystemContext, policy *signature.Policy, name string) (bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	reference, err := docker.ParseReference("//" + name)
	if err != nil {
		return false, err
	}
	source, err := reference.NewImageSource(ctx, system)
	if err != nil {
		return false, err
	}
	defer source.Close()
	judge, err := signature.NewPolicyContext(policy)
	if err != nil {
		return false, err
	}
	defer judge.Destroy()
	return judge.IsRunningImageAllowed(ctx, image.UnparsedInstance(source, nil))
}
