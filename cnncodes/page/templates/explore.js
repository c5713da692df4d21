// Names of groups, saved as a table of labels; a click on an image shows its neighbours on the map.
(function () {
  const bar = document.getElementById("labels"), list = document.getElementById("group-names");
  const fields = Array.from(document.querySelectorAll("[data-group]"));
  const files = JSON.parse(document.getElementById("files-data").textContent);
  function names() {
    const found = new Map();
    fields.forEach(function (field) { if (field.value.trim()) found.set(Number(field.dataset.group), field.value.trim()); });
    return found;
  }
  function labels() {
    const named = names(), found = new Map();
    files.forEach(function (entry) { if (named.has(entry[1])) found.set(entry[0], named.get(entry[1])); });
    return found;
  }
  fields.forEach(function (field) {
    field.addEventListener("input", function () {
      const found = names(), images = labels().size, classes = new Set(found.values());
      bar.hidden = found.size === 0;
      bar.querySelector("span").textContent = classes.size + (classes.size === 1 ? " class, " : " classes, ") + images + (images === 1 ? " image" : " images");
      const name = field.value.trim() || field.placeholder;
      document.dispatchEvent(new CustomEvent("rename", { detail: { place: Number(field.dataset.group) - 1, name: name } }));
    });
    field.addEventListener("change", function () {
      list.replaceChildren.apply(list, Array.from(new Set(names().values()), function (name) {
        const option = document.createElement("option");
        option.value = name;
        return option;
      }));
    });
  });
  bar.querySelector("button").addEventListener("click", function () { saveTable("labels.csv", labels()); });
  document.querySelectorAll("[data-place]").forEach(function (image) {
    function choose() { document.dispatchEvent(new CustomEvent("choose", { detail: Number(image.dataset.place) })); }
    image.addEventListener("click", choose);
    image.addEventListener("keydown", function (event) { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(); } });
  });
})();
