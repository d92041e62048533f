// Package web is the web app in front of the users service: users as JSON lines and as server-sent events, and a page.
//
//	GET  /              the page
//	POST /users/me      signs up: {"name":..., "email":..., "password":...}
//	POST /session       logs in: {"email":..., "password":...}
//	GET  /session       whose session it is
//	DELETE /session     logs out
//	GET  /users/        all users, or those named by id=...&id=..., one JSON object a line, each sent as it arrives
//	POST /users/        creates the user of the JSON object {"name":..., "email":...}
//	DELETE /users/ID    deletes a user
//	GET  /users/ID/history  what was done to a user, one JSON object a line
//	GET  /users/events  server-sent events: "subscribed", then "created" for each new user; domain=... restricts them
//	GET  /healthz       200 while the process runs
//	GET  /readyz        200 while the users service is healthy
//
// A session is in the cookie "session", or what a program sends as Authorization: Bearer TOKEN.
//
// Every response has X-Request-Id, X-Trace-Id and Server-Timing: traceparent;desc="...". An error is {"error": {...}} with
// code, reason, message, request id and trace id, and the HTTP status of its code. A list or event stream that fails half-way
// ends with such a line, or event "failed".
package web
