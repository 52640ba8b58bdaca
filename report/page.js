"use strict";
// What a page does beyond HTML: sort and filter tables, search clips, show the map. It fetches nothing.
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const number = (text) => {
    const found = text.replace("−", "-").match(/-?\d+(\.\d+)?(e[+-]?\d+)?/i);
    return found ? Number(found[0]) : -Infinity;
  };

  // Tables with class "sortable": a button in each heading; summaries stay below.
  for (const table of all("table.sortable")) {
    const body = table.tBodies[0];
    all("thead th", table).forEach((heading, column) => {
      if (!heading.textContent.trim() || heading.querySelector(".scale")) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        const ascending = heading.getAttribute("aria-sort") === "descending";
        all("th", table.tHead).forEach((other) => other.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
        const rows = all("tr:not(.summary)", body);
        const isNumber = heading.classList.contains("n");
        const value = (row) => row.cells[column].textContent.trim();
        rows.sort((a, b) => (isNumber ? number(value(a)) - number(value(b)) : value(a).localeCompare(value(b))));
        if (!ascending) rows.reverse();
        body.prepend(...rows);
      });
    });
  }

  // Fields with data-filters="id of a table": rows that lack the text are hidden.
  for (const field of all("input[data-filters]")) {
    field.closest(".tools").hidden = false;
    const body = document.getElementById(field.dataset.filters).tBodies[0];
    field.addEventListener("input", () => {
      const wanted = field.value.toLowerCase();
      for (const row of all("tr", body)) row.hidden = !row.textContent.toLowerCase().includes(wanted);
    });
  }

  // One sound at a time.
  document.addEventListener("play", (event) => {
    for (const other of all("audio")) if (other !== event.target) other.pause();
  }, true);

  const open = (id, play) => {
    const clip = document.getElementById(id);
    if (!clip) return;
    for (let box = clip; box; box = box.parentElement) if (box.tagName === "DETAILS") box.open = true;
    clip.scrollIntoView({ block: "start" });
    clip.focus({ preventScroll: true });
    if (play) clip.querySelector("audio")?.play().catch(() => {});
  };
  for (const link of all("a.plays")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      open(link.getAttribute("href").slice(1), true);
    });
  }
  const follow = () => { if (location.hash.startsWith("#clip-")) open(location.hash.slice(1), false); };
  addEventListener("hashchange", follow);
  follow();

  // The map: colours by label or by machine, one machine or all.
  const map = document.querySelector("svg.points");
  if (map) {
    document.querySelector(".map-tools").hidden = false;
    const colours = document.getElementById("map-colours");
    const machine = document.getElementById("map-machine");
    const show = () => {
      map.dataset.by = colours.value;
      for (const legend of all(".map-legend")) legend.hidden = legend.dataset.by !== colours.value;
      for (const point of all("[data-m]", map)) {
        point.classList.toggle("aside", machine.value !== "" && point.dataset.m !== machine.value);
      }
    };
    colours.addEventListener("change", show);
    machine.addEventListener("change", show);
    show();
    const about = document.getElementById("map-about");
    map.addEventListener("pointerover", (event) => {
      const title = event.target.closest("[data-m]")?.querySelector("title");
      if (title) about.textContent = title.textContent;
    });
    map.addEventListener("focusin", (event) => {
      about.textContent = event.target.getAttribute("aria-label") || "";
    });
  }

  // All clips: searched in a list of the page, since a table of all would be slow.
  const list = document.getElementById("all-clips");
  if (list) {
    const data = JSON.parse(document.getElementById("clip-data").textContent);
    const rows = data.machines.flatMap((m) =>
      m.clips.map((c, i) => ({ machine: m.name, rank: i + 1, key: c[0], score: c[1], label: data.labels[c[2]], verdict: data.verdicts[c[3]], heard: c[4] })));
    for (const row of rows) row.text = `${row.machine} ${row.key} ${row.label} ${row.verdict}`.toLowerCase();
    const field = document.getElementById("clip-search");
    const body = list.tBodies[0];
    const count = document.getElementById("clip-count");
    const cell = (row, text, kind) => {
      const td = row.insertCell();
      td.textContent = text;
      if (kind) td.className = kind;
      return td;
    };
    const search = () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      const found = rows.filter((row) => words.every((word) => row.text.includes(word)));
      body.replaceChildren();
      for (const row of found.slice(0, 100)) {
        const tr = body.insertRow();
        cell(tr, row.machine);
        cell(tr, row.rank, "n dim");
        const name = cell(tr, "", "key");
        if (row.heard) {
          const link = document.createElement("a");
          link.href = `#${row.heard}`;
          link.textContent = row.key;
          name.append(link);
        } else name.textContent = row.key;
        cell(tr, row.score, "n");
        cell(tr, row.label, `tag ${row.label}`);
        cell(tr, row.verdict, "tag");
      }
      count.textContent = found.length > 100 ? `the first 100 of ${found.length}` : `${found.length} found`;
    };
    field.addEventListener("input", search);
    field.closest("section").hidden = false;
    search();
  }

  addEventListener("beforeprint", () => all("details").forEach((each) => { each.open = true; }));
})();
