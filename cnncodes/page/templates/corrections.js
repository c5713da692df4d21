// Saves the classes that were chosen below images as a table with the columns filename and label, which --labels takes.
(function () {
  const bar = document.getElementById("corrections");
  if (!bar) return;
  const choices = Array.from(document.querySelectorAll("[data-path]"));
  function isChosen(choice) { return choice.tagName === "SELECT" ? choice.selectedIndex > 0 : choice.value.trim() !== ""; }
  function label(choice) {
    if (choice.tagName === "SELECT") return choice.selectedOptions[0].hasAttribute("data-out") ? "" : choice.value;
    return choice.value.trim() === "(leave out)" ? "" : choice.value.trim();
  }
  function chosen() {
    const lines = new Map();  // an image may be on the page twice; the later choice counts
    choices.filter(isChosen).forEach(function (choice) { lines.set(choice.dataset.path, label(choice)); });
    return lines;
  }
  choices.forEach(function (choice) {
    choice.addEventListener("change", function () {
      const count = chosen().size;
      bar.hidden = count === 0;
      bar.querySelector("span").textContent = count + (count === 1 ? " correction" : " corrections");
    });
  });
  bar.querySelector("button").addEventListener("click", function () {
    saveTable("corrections.csv", chosen());
  });
})();
