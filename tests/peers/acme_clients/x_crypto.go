// A client on golang.org/x/crypto/acme, the library beneath cert-manager and autocert. scripts/peers builds it.
//
// usage: x-crypto-acme [-directory URL] [-account FILE] [-kid KID -hmac KEY] register
//	x-crypto-acme [-directory URL] [-account FILE] [-prover PROGRAM] order CSR-FILE NAME...
//	x-crypto-acme [-directory URL] [-account FILE] revoke CHAIN-FILE
//
// "order" prints the chain. What a server wants to be proved is proved by dns-01.
package main

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"time"

	"golang.org/x/crypto/acme"
)

var prover = flag.String("prover", "true", "program that adds a TXT record, called with its name and value")

func main() {
	log.SetFlags(0)
	directory := flag.String("directory", "", "URL of the directory")
	account := flag.String("account", "account.key", "file with the private key of the account, PKCS #8 in PEM")
	kid := flag.String("kid", "", "external account")
	hmac := flag.String("hmac", "", "its MAC key, base64url")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Second)
	defer cancel()

	key, err := x509.ParsePKCS8PrivateKey(readPEM(*account))
	check(err)
	client := &acme.Client{DirectoryURL: *directory, Key: key.(crypto.Signer)}
	arguments := flag.Args()
	switch arguments[0] {
	case "register":
		wanted := &acme.Account{Contact: []string{"mailto:admin@example.org"}}
		if *kid != "" {
			secret, err := base64.RawURLEncoding.DecodeString(*hmac)
			check(err)
			wanted.ExternalAccountBinding = &acme.ExternalAccountBinding{KID: *kid, Key: secret}
		}
		_, err = client.Register(ctx, wanted, acme.AcceptTOS)
		check(err)
	case "order":
		order(ctx, client, readPEM(arguments[1]), arguments[2:])
	case "revoke":
		check(client.RevokeCert(ctx, nil, readPEM(arguments[1]), acme.CRLReasonSuperseded))
	default:
		log.Fatalf("no such command: %s", arguments[0])
	}
}

func order(ctx context.Context, client *acme.Client, request []byte, names []string) {
	order, err := client.AuthorizeOrder(ctx, acme.DomainIDs(names...))
	check(err)
	for _, url := range order.AuthzURLs {
		authorization, err := client.GetAuthorization(ctx, url)
		check(err)
		if authorization.Status == acme.StatusValid {
			continue
		}
		challenge := authorization.Challenges[0]
		for _, each := range authorization.Challenges {
			if each.Type == "dns-01" {
				challenge = each
			}
		}
		value, err := client.DNS01ChallengeRecord(challenge.Token)
		check(err)
		check(exec.Command(*prover, "_acme-challenge."+authorization.Identifier.Value, value).Run())
		_, err = client.Accept(ctx, challenge)
		check(err)
		_, err = client.WaitAuthorization(ctx, url)
		check(err)
	}
	order, err = client.WaitOrder(ctx, order.URI)
	check(err)
	chain, _, err := client.CreateOrderCert(ctx, order.FinalizeURL, request, true)
	check(err)
	for _, certificate := range chain {
		check(pem.Encode(os.Stdout, &pem.Block{Type: "CERTIFICATE", Bytes: certificate}))
	}
}

func readPEM(path string) []byte {
	text, err := os.ReadFile(path)
	check(err)
	block, _ := pem.Decode(text)
	if block == nil {
		log.Fatal(fmt.Errorf("%s: no PEM", path))
	}
	return block.Bytes
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
