package oauth2token_test

import (
	"fmt"

	"golang.org/x/oauth2/clientcredentials"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/rpcscope/rpcscope/interceptors"
	"github.com/rpcscope/rpcscope/interceptors/oauth2token"
)

// A service that calls another one with tokens of its own.
func ExampleNew() {
	config := &clientcredentials.Config{
		ClientID: "orders", ClientSecret: "...", TokenURL: "https://issuer.example.com/token", Scopes: []string{"users.read"},
	}
	conn, err := grpc.NewClient("dns:///users:50051", append(interceptors.DialOptions(
		interceptors.Token(oauth2token.New(config.Token)),
	), grpc.WithTransportCredentials(credentials.NewTLS(nil)))...)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = conn.Close() }()
	fmt.Println(conn.Target())
	// Output: dns:///users:50051
}
