//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/rpcscope/rpcscope/tests/internal/program"
)

// tab is a tab of a real Chromium. What cannot be done within [program.Patience] fails the test.
type tab struct {
	t       *testing.T
	ctx     context.Context
	console func() (chromedp.ConsoleMessage, error, bool)
}

// open starts a Chromium without a window, of its own and with nothing remembered, and opens a page in it.
func open(t *testing.T, page string) *tab {
	t.Helper()
	options := slices.Clone(chromedp.DefaultExecAllocatorOptions[:])
	if os.Geteuid() == 0 { // in a container; Chromium refuses to put root into its sandbox
		options = append(options, chromedp.NoSandbox)
	}
	allocator, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, closeTab := chromedp.NewContext(allocator)
	t.Cleanup(closeTab)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("%v: this test needs a Chromium on the PATH (Debian and Ubuntu: apt install chromium)", err)
	}
	b := &tab{t: t, ctx: ctx}
	var end func()
	b.console, end = iter.Pull2(chromedp.Console(ctx))
	t.Cleanup(end)
	b.window(wide)
	b.do(chromedp.Navigate(page))
	return b
}

// said returns what the console says since the last time, sorted: errors and warnings, and what the browser notes of
// responses that are errors, as "404 /path".
func (b *tab) said() []string {
	b.t.Helper()
	const last = "that is all"
	b.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf("console.info(%q)", last)))
	var said []string
	for {
		m, err, ok := b.console()
		if err != nil || !ok {
			b.t.Fatalf("the console ended: %v", err)
		}
		if m.Text == last {
			slices.Sort(said)
			return said
		}
		text := m.String()
		if at, err := url.Parse(m.URL); err == nil && m.Source == "network" {
			_, text, _ = strings.Cut(m.Text, "a status of ")
			text = strings.Fields(text)[0] + " " + at.Path
		}
		said = append(said, text)
	}
}

// do does what somebody at the browser does.
func (b *tab) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, program.Patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatalf("%v\nThe page says:\n%s", err, b.text("body"))
	}
}

// obtain returns what an action does.
func obtain[T any](b *tab, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, program.Patience)
	defer cancel()
	got, err := chromedp.Run(ctx, action)
	if err != nil {
		b.t.Fatalf("%v\nThe page says:\n%s", err, b.text("body"))
	}
	return got
}

// A size of the window.
type size struct{ width, height int64 }

var wide, narrow = size{1280, 860}, size{360, 740}

func (b *tab) window(s size) {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(s.width, s.height))
}

// scheme has the user like light or dark pages.
func (b *tab) scheme(name string) {
	b.t.Helper()
	b.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		params := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}}
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, params)
		return err
	}))
}

// until waits for a JavaScript expression to become true.
func (b *tab) until(expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, program.Patience)
	defer cancel()
	_, err := chromedp.Run(ctx, chromedp.Poll[chromedp.Void](expression, chromedp.WithPollingTimeout(0)))
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("not true in %v", program.Patience)
	}
	if err != nil {
		b.t.Fatalf("%s: %v\nThe page says:\n%s", expression, err, b.text("body"))
	}
}

// says waits until what selector selects has a text with want in it.
func (b *tab) says(selector, want string) {
	b.t.Helper()
	b.until(fmt.Sprintf("document.querySelector(%q)?.innerText.includes(%q)", selector, want))
}

// text returns the text of what selector selects, as it is seen.
func (b *tab) text(selector string) string {
	text, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](fmt.Sprintf("document.querySelector(%q)?.innerText ?? ''", selector)))
	if err != nil {
		return err.Error()
	}
	return text
}

// fill types text in place of what is in a field.
func (b *tab) fill(selector, text string) {
	b.t.Helper()
	b.do(
		chromedp.Focus(chromedp.CSS(selector)),
		chromedp.Evaluate[chromedp.Void]("document.activeElement.select()"),
		chromedp.KeyEvent(kb.Backspace+text),
	)
}

// choose chooses one of the options of a select.
func (b *tab) choose(selector, value string) {
	b.t.Helper()
	b.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf("document.querySelector(%q).value = %q", selector, value)),
		chromedp.Evaluate[chromedp.Void](fmt.Sprintf("document.querySelector(%q).dispatchEvent(new Event('change'))", selector)))
}

func (b *tab) click(selector string) {
	b.t.Helper()
	b.do(chromedp.Click(chromedp.CSS(selector)))
}

// thing is what assistive technology is told of a part of the page.
type thing struct{ role, name string }

// things returns what assistive technology is told of the page, in the order of the page.
func (b *tab) things() []thing {
	b.t.Helper()
	tree := obtain(b, func(ctx context.Context, t *chromedp.Target) (accessibility.GetFullAXTreeResult, error) {
		return cdp.Call(ctx, t, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	})
	var all []thing
	for _, node := range tree.Nodes {
		if !node.Ignored {
			all = append(all, thing{textOf(node.Role), textOf(node.Name)})
		}
	}
	return all
}

func textOf(v *accessibility.Value) string {
	if v == nil {
		return ""
	}
	return strings.Trim(string(v.Value), `"`)
}
