"use strict";
{
  const copy = async (button) => {
    const source = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    } catch {
      // A page that may not write to the clipboard selects the text
      getSelection().selectAllChildren(source);
    }
  };
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", () => copy(button));
  }

  const compare = document.getElementById("compare");
  if (compare) {
    const table = document.getElementById("table");
    const columns = [...compare.querySelectorAll("[data-column]")];
    const differences = document.getElementById("differences");
    const rows = [...table.rows].filter((row) => row.cells.length === columns.length + 1);

    const update = () => {
      const shown = columns.filter((box) => box.checked).map((box) => Number(box.dataset.column));
      let count = 0;
      for (const row of rows) {
        for (const box of columns) row.cells[Number(box.dataset.column)].hidden = !box.checked;
        const texts = new Set(shown.map((column) => row.cells[column].dataset.content));
        const differs = texts.size > 1;
        if (row.parentElement.tagName === "TBODY") {
          row.hidden = differences.checked && !differs;
          count += differs ? 1 : 0;
        }
      }
      for (const section of table.tBodies) {
        const isEmpty = [...section.rows].slice(1).every((row) => row.hidden);
        section.rows[0].hidden = isEmpty;
      }
      const words = count === 1 ? "1 row differs" : `${count} rows differ`;
      document.getElementById("compared").textContent = shown.length > 1 ? words : "";
    };
    compare.addEventListener("change", update);
    compare.hidden = false;
    update();
  }
}
