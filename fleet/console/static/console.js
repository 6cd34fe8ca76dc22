// What the library has no component for: times in the viewer's zone, copying, the theme, and the forms that log in.
(() => {
  const ROOT = "/console", API = "/api/v1/session";
  const steps = [[60, "s"], [3600, "min"], [86400, "h"], [1000 * 86400, "d"], [Infinity, "years"]];
  const size = { s: 1, min: 60, h: 3600, d: 86400, years: 365.25 * 86400 };

  function distance(seconds) {
    const [, unit] = steps.find(([below]) => Math.abs(seconds) < below);
    const count = Math.round(Math.abs(seconds) / size[unit]);
    return seconds >= 0 ? `${count} ${unit} ago` : `in ${count} ${unit}`;
  }

  // Made once: the browser takes a millisecond for each.
  const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });

  function write() {
    const now = Date.now() / 1000;
    for (const one of document.querySelectorAll("time[data-ts]")) {
      const at = Number(one.dataset.ts), date = new Date(at * 1000);
      const text = Number.isFinite(at) && at > 0 ? distance(now - at) : "never";
      if (one.textContent !== text) one.textContent = text;
      if (text !== "never") {
        one.dateTime = date.toISOString();
        one.title = exact.format(date);
      }
    }
  }
  setInterval(write, 1000);

  // Sentences of the server's have times in UTC: they, too, are read in the viewer's zone.
  function localised() {
    for (const cell of document.querySelectorAll(".ef-why td")) for (const text of cell.childNodes) {
      if (text.nodeType === Node.TEXT_NODE && text.data.includes(" UTC")) text.data = text.data.replace(
        /(\d{4}-\d\d-\d\d) (\d\d:\d\d) UTC/g,
        (_, day, at) => new Date(`${day}T${at}Z`).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" }));
    }
  }

  // What scrolls can be reached by the keyboard.
  function reachable() {
    const scrolled = [".q-table__middle.scroll", ".ef-log", ".ef-preview"].map((one) => `${one}:not([tabindex])`);
    for (const one of document.querySelectorAll(scrolled.join())) one.tabIndex = 0;
    // A dialog is called what its heading says.
    for (const one of document.querySelectorAll("[role=dialog]:not([aria-label])")) one.ariaLabel = one.querySelector(".ef-title")?.textContent ?? "Search";
    // The library gives the bar of what is being loaded no name.
    for (const bar of document.querySelectorAll(".q-loading-bar:not([aria-label])")) bar.ariaLabel = "Loading";
  }
  new MutationObserver(() => requestAnimationFrame(() => { write(); localised(); reachable(); })).observe(document.documentElement, { childList: true, subtree: true, characterData: true });

  // The palette opens by way of the server: what is typed until it is there is kept for it.
  let early = null, entered = false;
  addEventListener("keydown", (event) => {
    if (event.target.closest?.("input, textarea, select, [contenteditable]")) return;
    const held = event.ctrlKey || event.metaKey;
    if ((event.key === "/" && !held && early === null) || (event.key === "k" && held)) [early, entered] = ["", false];
    else if (early !== null && event.key === "Enter") entered = true;
    else if (early !== null && event.key.length === 1 && !held) early += event.key;
    else {
      if (event.key === "Escape") early = null;
      return;
    }
    event.preventDefault();
  });
  addEventListener("focusin", (event) => {
    if (early === null || !event.target.closest(".ef-palette input")) return;
    if (early) event.target.value = early;
    early = null;
    event.target.dispatchEvent(new Event("input", { bubbles: true }));
    if (entered) event.target.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));
  });

  const dark = () => localStorage.getItem("edgefleet-theme") ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  const paint = () => window.Quasar?.Dark?.set(dark() === "dark");
  addEventListener("load", () => setTimeout(paint));

  async function sent(method, path, body, csrf) {
    const headers = { "Content-Type": "application/json", ...(csrf && { "X-Edgefleet-Csrf": csrf }) };
    const answer = await fetch(path, { method, headers, body: JSON.stringify(body), credentials: "same-origin" });
    const said = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error([said.detail ?? "The server did not answer as it should.", said.remedy].filter(Boolean).join(". "));
    return said;
  }

  addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.matches("[data-login], [data-password]")) return;
    event.preventDefault();
    const said = form.querySelector("[data-said]"), given = Object.fromEntries(new FormData(form));
    said.textContent = "";
    try {
      if (form.matches("[data-login]")) {
        const who = await sent("POST", API, given);
        location.assign(who.must_change_password ? `${ROOT}/login/password` : form.dataset.next);
      } else {
        const { csrf } = await (await fetch(API, { credentials: "same-origin" })).json();
        await sent("PUT", `${API}/password`, given, csrf);
        location.assign(`${ROOT}/login`);
      }
    } catch (error) {
      said.textContent = error.message;
    }
  });

  addEventListener("click", async (event) => {
    const copy = event.target.closest("[data-copy]");
    if (copy) {
      await navigator.clipboard.writeText(copy.dataset.copy);
      window.Quasar?.Notify?.create({ message: "Copied", timeout: 1500 });
    }
    if (event.target.closest("[data-theme-switch]")) {
      localStorage.setItem("edgefleet-theme", dark() === "dark" ? "light" : "dark");
      paint();
    }
  });
})();
