package jwtauth

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/rpcscope/rpcscope/propagation"
)

// Claims names the claims that an identity is made of. A name with dots is that of a
// claim called so or, if there is none, a path: "realm_access.roles".
//
// A list is an array of strings, or one string with spaces between its items, as OAuth
// writes scopes. A claim that is missing leaves its field empty, but for User: a token
// that is nobody's is refused, as is one with a claim of another type.
type Claims struct {
	User    string // default: sub
	Tenant  string // default: tenant_id
	Session string // default: sid
	Roles   string // a list; default: roles
	Scopes  string // a list; default: scope, else scp
}

func (c *Claims) setDefaults() {
	c.User = cmp.Or(c.User, "sub")
	c.Tenant = cmp.Or(c.Tenant, "tenant_id")
	c.Session = cmp.Or(c.Session, "sid")
	c.Roles = cmp.Or(c.Roles, "roles")
}

func (c *Claims) identity(claims map[string]any) (id propagation.Identity, err error) {
	var errs [5]error
	id.UserID, errs[0] = text(claims, c.User)
	id.TenantID, errs[1] = text(claims, c.Tenant)
	id.SessionID, errs[2] = text(claims, c.Session)
	id.Roles, errs[3] = list(claims, c.Roles)
	if c.Scopes != "" {
		id.Scopes, errs[4] = list(claims, c.Scopes)
	} else if id.Scopes, errs[4] = list(claims, "scope"); id.Scopes == nil && errs[4] == nil {
		id.Scopes, errs[4] = list(claims, "scp")
	}
	if err := errors.Join(errs[:]...); err != nil {
		return propagation.Identity{}, err
	}
	if id.UserID == "" {
		return propagation.Identity{}, fmt.Errorf("jwtauth: the token has no claim %s", c.User)
	}
	return id, nil
}

// find is the claim of that name or path, nil if there is none.
func find(claims map[string]any, name string) any {
	if value, ok := claims[name]; ok {
		return value
	}
	for i := range len(name) {
		if name[i] != '.' {
			continue
		}
		if inner, ok := claims[name[:i]].(map[string]any); ok {
			return find(inner, name[i+1:])
		}
	}
	return nil
}

func text(claims map[string]any, name string) (string, error) {
	switch value := find(claims, name).(type) {
	case nil:
		return "", nil
	case string:
		return value, nil
	default:
		return "", wrongType(name, value, "a string")
	}
}

func list(claims map[string]any, name string) ([]string, error) {
	switch value := find(claims, name).(type) {
	case nil:
		return nil, nil
	case string:
		return strings.Fields(value), nil
	case []any:
		items := make([]string, 0, len(value))
		for _, v := range value {
			s, ok := v.(string)
			if !ok {
				return nil, wrongType(name, v, "an array of strings")
			}
			items = append(items, s)
		}
		return items, nil
	default:
		return nil, wrongType(name, value, "an array of strings, or a string")
	}
}

func wrongType(name string, value any, want string) error {
	return fmt.Errorf("jwtauth: the claim %s has a %T in it; want %s", name, value, want)
}
