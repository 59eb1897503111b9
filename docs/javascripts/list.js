// Narrows the overview of the reading list. Without JavaScript the whole list is shown.
(() => {
  const place = document.getElementById("list-filter");
  if (!place) return;
  const make = (tag, properties, ...inside) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...inside);
    return made;
  };
  const { filter, anyTopic, onlyMedical, onlyRunnable, topics } = place.dataset;
  const words = make("input", { type: "search", placeholder: filter, ariaLabel: filter });
  const topic = make("select", { ariaLabel: anyTopic }, make("option", { value: "", textContent: anyTopic }));
  for (const pair of topics.split(";")) {
    const [value, textContent] = pair.split("=");
    topic.append(make("option", { value, textContent }));
  }
  const medical = make("input", { type: "checkbox" });
  const runnable = make("input", { type: "checkbox" });
  place.append(words, topic, make("label", {}, medical, ` ${onlyMedical}`), make("label", {}, runnable, ` ${onlyRunnable}`));

  const entries = [...document.querySelectorAll("a.entry")].map((link) => {
    const item = link.closest("li");
    return { link, item, text: `${item.textContent} ${link.dataset.key}`.toLowerCase() };
  });
  const narrow = () => {
    const asked = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const { link, item, text } of entries)
      item.hidden = !(
        asked.every((word) => text.includes(word)) &&
        (!topic.value || link.dataset.topics.split(" ").includes(topic.value)) &&
        (!medical.checked || link.dataset.medical === "1") &&
        (!runnable.checked || !link.classList.contains("none"))
      );
    // A heading above nothing is hidden too, from the innermost out.
    for (const heading of [...document.querySelectorAll("article h3, article h2")].reverse()) {
      let found = false;
      for (let next = heading.nextElementSibling; next && next.tagName > heading.tagName | next.tagName === "UL"; next = next.nextElementSibling)
        found ||= Boolean(next.querySelector("a.entry") && [...next.children].some((item) => !item.hidden));
      heading.hidden = !found;
    }
  };
  place.addEventListener("input", narrow);
})();
