"use strict";
// The theme is set before the first paint; the rest waits for the page.
const root = document.documentElement;
let theme = null;
try { theme = localStorage.getItem("papyra-theme"); } catch {}
if (theme) root.dataset.theme = theme;

addEventListener("DOMContentLoaded", () => {
  const live = document.getElementById("live");
  const pause = document.getElementById("pause");
  const find = document.getElementById("find");
  const said = document.getElementById("said");
  const token = document.querySelector('meta[name="papyra-token"]')?.content;
  if (!pause) return;
  let paused = false;

  const say = (text) => { if (said.textContent !== text) said.textContent = text; };
  if (token) root.classList.add("acts");

  // A link, wherever its row is; the same one in another table or list is another link.
  const key = (link) => `${link.closest("tbody, thead, ul, section")?.tagName} ${link.getAttribute("href")}`;
  const links = () => [...live.querySelectorAll("a")];

  // Rows are morphed in place, so the focus would go from link to link as they move. It stays with its link, or
  // goes to the next one that is left if the link's row is gone.
  function keepFocus() {
    const before = links();
    const place = before.indexOf(document.activeElement);
    if (place < 0) return () => {};
    const wanted = [...before.slice(place), ...before.slice(0, place).reverse()].map(key);
    return () => {
      const now = document.activeElement;
      if (live.contains(now) && now.matches("a") && key(now) === wanted[0]) return;
      const found = new Map(links().reverse().map((link) => [key(link), link]));
      const left = wanted.find((one) => found.has(one));
      (found.get(left) ?? document.querySelector("nav [aria-current]"))?.focus({preventScroll: true});
    };
  }

  // Ask for the numbers of this second and morph them in: focus, selection and scroll stay.
  async function refresh() {
    if (!paused && !document.hidden) {
      try {
        const answer = await fetch(live.dataset.live, {signal: AbortSignal.timeout(10000)});
        if (answer.ok && !paused) {
          const text = await answer.text();
          const restore = keepFocus();
          await htmx.swap({text, target: live, swap: "innerMorph", sourceElement: document.body});
          restore();
          say("");
        } else if (!answer.ok) say(`No new numbers: ${answer.status} ${answer.statusText}`);
      } catch { say("No new numbers: the dashboard does not answer"); }
    }
    setTimeout(refresh, 1000 * live.dataset.seconds);
  }

  function togglePause() {
    paused = !paused;
    pause.setAttribute("aria-pressed", paused);
    say(paused ? "Paused; p goes on" : "");
  }

  function toggleTheme() {
    const dark = getComputedStyle(root).colorScheme === "dark" ||
      (!root.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
    root.dataset.theme = dark ? "light" : "dark";
    try { localStorage.setItem("papyra-theme", root.dataset.theme); } catch {}
  }

  async function act(button) {
    if (button.dataset.ask && !confirm(button.dataset.ask)) return;
    const actor = button.dataset.actor ? `?actor=${encodeURIComponent(button.dataset.actor)}` : "";
    try {
      const answer = await fetch(`actions/${button.dataset.action}${actor}`,
        {method: "POST", headers: {"X-Papyra-Token": token}});
      const result = await answer.json();
      alert(result.done ?? result.error);
    } catch { alert("The dashboard does not answer."); }
  }

  pause.addEventListener("click", togglePause);
  document.getElementById("theme").addEventListener("click", toggleTheme);
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button.act");
    if (button) act(button);
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input, select, textarea")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const view = document.querySelector(`nav a[data-key="${CSS.escape(event.key)}"]`);
    if (view) view.click();
    else if (event.key === "p") togglePause();
    else if (event.key === "T") toggleTheme();
    else if (event.key === "/") find.focus();
    else return;
    event.preventDefault();
  });
  setTimeout(refresh, 1000 * live.dataset.seconds);
});
