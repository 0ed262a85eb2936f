"use strict";

/* Tables sort by a button in each head: first the way that puts the best on top, then back. */
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  const body = table.tBodies[0];
  heads.forEach((head, place) => {
    if (head.hasAttribute("data-plain") || body.rows.length < 2) return;
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

/* One player for all the worst utterances. */
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

/* Paper shows what is folded away. */
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
