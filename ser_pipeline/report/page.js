"use strict";

/* A button in each table head sorts by its column: numbers largest first, then the other way round. */
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  const body = table.tBodies[0];
  heads.forEach((head, place) => {
    if (body.rows.length < 2) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => sort(table, heads, place));
  });
}

function sort(table, heads, place) {
  const head = heads[place];
  const first = head.classList.contains("number") ? "descending" : "ascending";
  const other = first === "ascending" ? "descending" : "ascending";
  const order = head.getAttribute("aria-sort") === first ? other : first;
  const sign = order === "ascending" ? 1 : -1;
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => sign * compare(value(a, place), value(b, place)) || 0);
  rows.sort((a, b) => (value(a, place) === "") - (value(b, place) === ""));
  table.tBodies[0].append(...rows);
  for (const each of heads) if (each.hasAttribute("aria-sort")) each.setAttribute("aria-sort", each === head ? order : "none");
}

function value(row, place) {
  return row.cells[place].dataset.sort ?? "";
}

function compare(a, b) {
  const numbers = [Number(a), Number(b)];
  return numbers.some(Number.isNaN) ? a.localeCompare(b, "en", { numeric: true }) : numbers[0] - numbers[1];
}

/* Buttons that copy a table as LaTeX, or the commands. */
function offer(place, name, text) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = name;
  button.addEventListener("click", async () => {
    button.textContent = (await copied(text())) ? "Copied" : "Not copied";
    setTimeout(() => (button.textContent = name), 2000);
  });
  const tools = document.createElement("div");
  tools.className = "tools";
  tools.append(button);
  place.after(tools);
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

for (const kept of document.querySelectorAll("template.latex")) offer(kept, "Copy LaTeX", () => kept.content.textContent);
for (const pre of document.querySelectorAll("[data-copy]")) {
  offer(pre, `Copy ${pre.dataset.copy}`, () => [...pre.querySelectorAll("code > span")].map((line) => line.textContent).join("\n"));
}

/* A drop-down list replaces several folded sections. */
function choose(words, names, chosen, change) {
  const label = document.createElement("label");
  const select = document.createElement("select");
  names.forEach((name, place) => select.add(new Option(name, place, place === chosen, place === chosen)));
  select.addEventListener("change", change);
  label.className = "choose";
  label.append(words, select);
  return [label, select];
}

for (const chooser of document.querySelectorAll(".chooser")) {
  const all = [...chooser.children];
  const [label, select] = choose(chooser.dataset.chooser, all.map((one) => one.dataset.name), 0, show);
  function show() {
    all.forEach((one, place) => {
      one.open = place === select.selectedIndex;
      one.hidden = !one.open;
      one.classList.toggle("chosen", one.open);
    });
  }
  show();
  if (all.length > 1) chooser.prepend(label);
}

/* Compares two models by speaker, from the table of all models. */
for (const place of document.querySelectorAll("[data-against]")) against(place);

function against(place) {
  const table = place.querySelector("table");
  const names = [...table.tHead.rows[table.tHead.rows.length - 1].cells].slice(1).map((head) => head.textContent.trim());
  const rows = [...table.tBodies[0].rows].map((row) => [...row.cells]);
  const speakers = rows.map((cells) => [cells[0].textContent.trim(), ...cells.slice(1).map((cell) => (cell.dataset.sort === "" ? NaN : 100 * Number(cell.dataset.sort)))]);
  const box = document.createElement("div");
  const told = document.createElement("p");
  const body = document.createElement("div");
  const [first, one] = choose("Speakers of", names, 0, show);
  const [second, other] = choose("against", names, 1, show);
  const both = document.createElement("div");
  box.className = "against";
  told.className = "note";
  both.className = "choose";
  body.className = "scroll";
  body.tabIndex = 0;
  body.setAttribute("role", "group");
  body.setAttribute("aria-label", "Speakers of two models");
  both.append(first, second);
  box.append(both, body, told);
  place.append(box);
  show();

  function show() {
    const pairs = speakers.map((values) => [values[0], values[1 + one.selectedIndex], values[1 + other.selectedIndex]]);
    const known = pairs.filter(([, a, b]) => !Number.isNaN(a + b));
    const every = known.flatMap(([, a, b]) => [a, b]);
    const low = 5 * Math.floor(Math.min(...every) / 5), high = Math.max(low + 5, 5 * Math.ceil(Math.max(...every) / 5));
    const at = (value) => `${(100 * (value - low)) / (high - low)}%`;
    const drawn = document.createElement("table");
    const head = drawn.createTHead().insertRow();
    for (const [place, title] of ["Speaker", names[one.selectedIndex], names[other.selectedIndex], "Difference", `● ${names[one.selectedIndex]}, ○ ${names[other.selectedIndex]}, ${low} to ${high}`].entries()) {
      const cell = document.createElement("th");
      if (place > 0 && place < 4) cell.className = "number";
      cell.scope = "col";
      cell.textContent = title;
      head.append(cell);
    }
    const rest = drawn.createTBody();
    for (const [name, a, b] of known) {
      const row = rest.insertRow();
      const cell = document.createElement("th");
      cell.scope = "row";
      cell.textContent = name;
      row.append(cell);
      for (const text of [a.toFixed(1), b.toFixed(1), signed(a - b)]) {
        const number = row.insertCell();
        number.className = "number";
        number.textContent = text;
      }
      row.insertCell().append(track(at(Math.min(a, b)), at(a), at(b), `${(100 * Math.abs(a - b)) / (high - low)}%`));
    }
    body.replaceChildren(drawn);
    const better = known.filter(([, a, b]) => a > b).length, worse = known.filter(([, a, b]) => a < b).length;
    const mean = known.reduce((sum, [, a, b]) => sum + a - b, 0) / known.length;
    told.textContent = `UA in %, pooled over the utterances of each speaker, the mean over seeds. ${names[one.selectedIndex]} is higher for ${better} of ${known.length} speakers and lower for ${worse}; the mean of the differences is ${signed(mean)} points. For tests, see the ablation table.`;
  }
}

function signed(value) {
  const text = value.toFixed(1);
  return Number(text) === 0 ? "0.0" : value > 0 ? `+${text}` : text.replace("-", "−");
}

function track(start, one, other, width) {
  const box = document.createElement("div");
  box.className = "track";
  box.setAttribute("aria-hidden", "true");
  for (const [kind, left] of [["line", start], ["other", other], ["one", one]]) {
    const part = document.createElement("i");
    part.className = kind;
    part.style.left = left;
    if (kind === "line") part.style.width = width;
    box.append(part);
  }
  return box;
}

/* One audio player for all the worst utterances. */
const player = document.getElementById("player");
const state = document.getElementById("player-state");
let playing = null;

function stop() {
  if (playing) playing.setAttribute("aria-pressed", "false");
  playing = null;
}

for (const button of document.querySelectorAll("button.play")) {
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", () => {
    const again = playing === button;
    player.pause();
    stop();
    if (again) return;
    playing = button;
    button.setAttribute("aria-pressed", "true");
    state.textContent = "";
    player.src = button.dataset.audio;
    player.play().catch(() => {
      stop();
      state.textContent = "The audio cannot be played from here.";
    });
  });
}
if (player) player.addEventListener("ended", stop);

/* Open all folded sections for printing. */
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details:not(.chooser > details)")) details.open = true;
});
