"use strict";
// Filters the images, and saves the classes that were chosen as a table with the columns filename and label.
document.documentElement.classList.add("script");
(function () {
  const filter = document.getElementById("filter"), save = document.getElementById("save");
  const status = document.getElementById("chosen");
  const cards = Array.from(document.querySelectorAll(".card"));
  const choices = Array.from(document.querySelectorAll(".card select"));
  function chosen() { return choices.filter(function (choice) { return choice.value !== ""; }); }
  function cell(text) {
    // As in every table that cnncodes writes: nothing that a spreadsheet takes for a formula.
    const safe = /^[=+\-@\t\r]/.test(text) ? "'" + text : text;
    return /[",\n\r]/.test(safe) ? '"' + safe.replace(/"/g, '""') + '"' : safe;
  }
  filter.addEventListener("change", function () {
    cards.forEach(function (card) { card.hidden = filter.value !== "all" && card.dataset.group !== filter.value; });
  });
  choices.forEach(function (choice) {
    choice.addEventListener("change", function () {
      const count = chosen().length;
      save.disabled = count === 0;
      status.textContent = count + (count === 1 ? " image" : " images") + " with a class chosen";
    });
  });
  save.addEventListener("click", function () {
    const lines = ["filename,label"].concat(chosen().map(function (choice) {
      return cell(choice.dataset.path) + "," + cell(choice.value);
    }));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
    link.download = "corrections.csv";
    link.click();
    URL.revokeObjectURL(link.href);
  });
})();
