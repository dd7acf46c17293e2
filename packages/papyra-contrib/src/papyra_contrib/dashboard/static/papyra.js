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

  // Ask for the numbers of this second and morph them in: focus, selection and scroll stay.
  async function refresh() {
    if (!paused && !document.hidden) {
      try {
        const answer = await fetch(live.dataset.live, {signal: AbortSignal.timeout(10000)});
        if (answer.ok && !paused) {
          const text = await answer.text();
          await htmx.swap({text, target: live, swap: "innerMorph", sourceElement: document.body});
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
