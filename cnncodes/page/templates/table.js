"use strict";
document.documentElement.classList.add("script");
// Saves a table with the columns filename and label, which --labels takes; ``labels`` is a Map from path to label.
function saveTable(file, labels) {
  function cell(text) {
    // As in every table that cnncodes writes: nothing that a spreadsheet takes for a formula.
    const number = /^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$/.test(text);
    const safe = /^[=+\-@\t\r]/.test(text) && !number ? "'" + text : text;
    return /[",\n\r]/.test(safe) ? '"' + safe.replace(/"/g, '""') + '"' : safe;
  }
  const lines = ["filename,label"];
  labels.forEach(function (name, path) { lines.push(cell(path) + "," + cell(name)); });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
  link.download = file;
  link.click();
  URL.revokeObjectURL(link.href);
}
