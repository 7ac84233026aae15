// Theme, contents, pictures in full size, sorting, filters. Everything also reads without it.
"use strict";

const vaelab = {
  /** The JSON that the page carries under an id. */
  data(id) {
    return JSON.parse(document.getElementById(id).textContent);
  },

  /** Bytes of base64 text. */
  bytes(text) {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  },

  /** The gzip stream in base64 text, decompressed. */
  async inflate(text) {
    const stream = new Blob([vaelab.bytes(text)]).stream();
    const plain = stream.pipeThrough(new DecompressionStream("gzip"));
    return new Response(plain).arrayBuffer();
  },

  /** The resolved value of a colour of the style sheet. */
  colour(name) {
    const probe = document.createElement("span");
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const { color } = getComputedStyle(probe);
    probe.remove();
    return color;
  },

  /** Calls back whenever the colours have changed. */
  onTheme(callback) {
    document.addEventListener("themechange", callback);
  },
};

(function theme() {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);

  function show() {
    button.setAttribute("aria-pressed", String(isDark()));
    document.dispatchEvent(new Event("themechange"));
  }

  // Storage may be closed to pages opened from disk; the choice then lasts for this visit.
  try {
    const stored = localStorage.getItem("vaelab-theme");
    if (stored === "dark" || stored === "light") root.dataset.theme = stored;
  } catch {}
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("vaelab-theme", root.dataset.theme);
    } catch {}
    show();
  });
  system.addEventListener("change", show);
  show();
})();

(function contents() {
  const links = new Map(
    [...document.querySelectorAll(".contents a")].map((a) => [a.hash.slice(1), a]),
  );
  const visible = new Set();
  const observer = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        visible[entry.isIntersecting ? "add" : "delete"](entry.target.id);
      }
      const current = [...links.keys()].find((id) => visible.has(id));
      for (const [id, link] of links) {
        if (id === current) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      }
      const bar = document.querySelector(".contents");
      const link = links.get(current);
      if (link && bar.scrollWidth > bar.clientWidth) {
        bar.scrollLeft = link.offsetLeft - (bar.clientWidth - link.offsetWidth) / 2;
      }
    },
    { rootMargin: "-20% 0px -60% 0px" },
  );
  for (const id of links.keys()) observer.observe(document.getElementById(id));
})();

(function pictures() {
  const dialog = document.getElementById("zoom");
  const image = dialog.querySelector("img");
  for (const plate of document.querySelectorAll("button.plate")) {
    plate.addEventListener("click", () => {
      const source = plate.querySelector("img");
      image.src = source.src;
      image.alt = source.alt;
      dialog.showModal();
    });
  }
  dialog.addEventListener("click", () => dialog.close());
})();

(function sorting() {
  const value = (row, index) => {
    const cell = row.cells[index];
    const text = cell.dataset.value ?? cell.textContent.trim();
    const number = Number(text);
    return text === "" ? null : Number.isNaN(number) ? text : number;
  };
  function compare(a, b) {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), "en", { numeric: true });
  }
  for (const table of document.querySelectorAll("table.sortable")) {
    for (const button of table.querySelectorAll("thead th button")) {
      const header = button.closest("th");
      button.addEventListener("click", () => {
        const ascending = header.getAttribute("aria-sort") !== "ascending";
        for (const other of table.querySelectorAll("thead th[aria-sort]")) {
          other.setAttribute("aria-sort", "none");
        }
        header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
        const column = Number(header.dataset.column);
        const body = table.tBodies[0];
        const rows = [...body.rows].sort((x, y) => {
          const [a, b] = [value(x, column), value(y, column)];
          // Empty cells stay last in either direction.
          if (a === null || b === null) return compare(a, b);
          return ascending ? compare(a, b) : compare(b, a);
        });
        body.append(...rows);
      });
    }
  }
})();

(function filters() {
  const form = document.getElementById("claim-filter");
  if (!form) return;
  const rows = [...document.querySelectorAll("#claim-rows tr")];
  const buttons = [...form.querySelectorAll("button[data-verdict]")];
  const search = form.querySelector("input");
  const status = form.querySelector("output");

  function apply() {
    const verdict = buttons.find((b) => b.getAttribute("aria-pressed") === "true").dataset.verdict;
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const fits =
        (verdict === "" || row.dataset.verdict === verdict) && words.every((w) => text.includes(w));
      row.hidden = !fits;
      shown += fits;
    }
    status.textContent = `${shown} of ${rows.length} claims`;
  }
  for (const button of buttons) {
    button.addEventListener("click", () => {
      for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
      apply();
    });
  }
  search.addEventListener("input", apply);
  // Links from figures and tables to a claim must find it, whatever is filtered.
  addEventListener("hashchange", () => {
    const row = location.hash && document.getElementById(location.hash.slice(1));
    if (row && row.hidden) {
      search.value = "";
      buttons[0].click();
      row.scrollIntoView();
    }
  });
  form.hidden = false;
  apply();
})();
