// Package oauth2token has token sources for
// [github.com/rpcscope/rpcscope/interceptors.Token] that are those of
// golang.org/x/oauth2.
//
//	config := &clientcredentials.Config{ClientID: id, ClientSecret: secret, TokenURL: "https://issuer.example.com/token"}
//
//	conn, err := grpc.NewClient("dns:///users:50051", append(interceptors.DialOptions(
//		interceptors.Token(oauth2token.New(config.Token)),
//	), grpc.WithTransportCredentials(creds))...)
//
// [New] takes a function that fetches a token each time: the method Token of a
// clientcredentials.Config, or an exchange of one's own. [FromSource] takes a
// [golang.org/x/oauth2.TokenSource], which as a rule keeps tokens by itself.
//
// Both are an [github.com/rpcscope/rpcscope/interceptors.TokenCache]: a token is fetched
// before it expires, in the background, once for all calls that want it, and not
// for the sake of one call that may be cancelled; an issuer in trouble is left
// alone for a while. With credentials/oauth of gRPC, calls wait for the fetch, one
// after the other, each time a token has expired, and a token that a server
// refuses is sent until then.
package oauth2token
