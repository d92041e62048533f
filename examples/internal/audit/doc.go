// Package audit is the audit service, which keeps who did what to whom, and its client.
package audit
