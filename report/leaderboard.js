// Sorts the table by the column whose heading is pressed, and shows only rows that hold all words.
const table = document.querySelector("table.board");
const rows = () => [...table.tBodies];

for (const button of table.querySelectorAll("thead button")) {
  button.addEventListener("click", () => {
    const heading = button.closest("th");
    const column = heading.cellIndex;
    const isNumber = heading.classList.contains("n");
    const now = heading.getAttribute("aria-sort");
    const falling = isNumber ? now !== "descending" : now === "ascending"; // high figures first
    for (const other of table.querySelectorAll("thead th[aria-sort]")) {
      other.setAttribute("aria-sort", "none");
    }
    heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const value = (body) => body.rows[0].cells[column].dataset.value ?? "";
    const sorted = rows().sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = isNumber ? Number(x) - Number(y) : x.localeCompare(y, undefined, { numeric: true });
      return falling ? -order : order;
    });
    table.append(...sorted);
  });
}

const filter = document.querySelector("#filter");
const count = document.querySelector("#count");
filter.closest("p").hidden = false;
filter.addEventListener("input", () => {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const body of rows()) {
    const text = body.textContent.toLowerCase();
    body.hidden = !words.every((word) => text.includes(word));
    shown += body.hidden ? 0 : 1;
  }
  count.textContent = `${shown} of ${rows().length}`;
});
