"use strict";
{
  const SHOWN = 100;
  const SUGGESTED = 200;
  const fields = ["words", "name", "subgroup", "alias", "author", "parameter", "since", "until", "order"];
  const inputs = new Map(fields.map((name) => [name, document.getElementById(name)]));
  const results = document.getElementById("results");
  const status = document.getElementById("status");
  const more = document.getElementById("more");

  const lower = (texts) => texts.map((text) => text.toLowerCase());
  const models = audmodelModels.map((row) => {
    const [short, name, subgroup, versions, number, aliases, authors, date, parameters] = row;
    const found = { short, name, subgroup, versions, number, aliases, authors, date, parameters };
    found.keys = {
      name: lower([name]),
      subgroup: lower([subgroup]),
      alias: lower(aliases),
      author: lower(authors),
      parameter: lower(parameters),
    };
    const uids = versions.map((version) => `${short}-${version}`);
    found.text = lower([name, subgroup, ...uids, ...aliases, ...authors, date, ...parameters]).join("\n");
    return found;
  });
  const newest = [...models].sort((a, b) => (a.date < b.date ? 1 : a.date > b.date ? -1 : 0));
  let found = [];

  const element = (tag, kind, ...content) => {
    const made = document.createElement(tag);
    if (kind) made.className = kind;
    made.append(...content);
    return made;
  };
  // Text of users keeps its direction to itself
  const isolated = (text) => element("bdi", "", text);

  const row = (model) => {
    const link = element("a", "name", isolated(model.name));
    link.href = `models/${model.short}.html`;
    const title = element("div", "", link);
    for (const alias of model.aliases) title.append(element("span", "chip", alias));
    const versions = model.number > 1 ? ` (${model.number} versions)` : "";
    const authors = model.authors.map((author, number) => [number ? ", " : "", isolated(author)]).flat();
    const item = element(
      "li", "",
      title,
      element("div", "when", `${model.versions[0]}${versions}, ${model.date}`),
      element("div", "where", isolated(model.subgroup), model.subgroup ? " · " : "", element("code", "", model.short)),
      element("div", "who", ...authors),
    );
    if (model.parameters.length) {
      const shown = model.parameters.map((pair, number) => [number ? ", " : "", isolated(pair)]).flat();
      item.append(element("div", "parameters", ...shown));
    }
    return item;
  };

  const show = (count) => {
    const start = results.childElementCount;
    results.append(...found.slice(start, count).map(row));
    more.hidden = found.length <= results.childElementCount;
  };

  const value = (name) => inputs.get(name).value.trim().toLowerCase();

  const search = () => {
    const words = value("words").split(/\s+/).filter(Boolean);
    const wanted = ["name", "subgroup", "alias", "author", "parameter"]
      .map((name) => [name, value(name)])
      .filter(([, text]) => text);
    const [since, until] = [value("since"), value("until")];
    const order = value("order") === "newest" ? newest : models;
    found = order.filter((model) =>
      words.every((word) => model.text.includes(word)) &&
      wanted.every(([name, text]) => model.keys[name].some((key) => key.includes(text))) &&
      (!since || model.date >= since) &&
      (!until || model.date.slice(0, 10) <= until));
    results.replaceChildren();
    show(SHOWN);
    const total = models.length.toLocaleString("en");
    const number = found.length.toLocaleString("en");
    status.textContent = found.length === models.length
      ? `${total} ${models.length === 1 ? "model" : "models"}`
      : `${number} of ${total} models`;
    if (!found.length && models.length) status.textContent += ". Try fewer words or filters.";
  };

  // The address says what is searched, so that it can be shared
  const remember = () => {
    const given = fields.map((name) => [name, inputs.get(name).value]).filter(([, text]) => text);
    const address = new URLSearchParams(given).toString();
    history.replaceState(null, "", address ? `#${address}` : location.pathname + location.search);
  };
  const recall = () => {
    const given = new URLSearchParams(location.hash.slice(1));
    for (const name of fields) inputs.get(name).value = given.get(name) || "";
    const isFiltered = fields.some((name) => name !== "words" && given.get(name));
    if (isFiltered) document.getElementById("filters").open = true;
    search();
  };

  const suggest = (list, texts) => {
    const counts = new Map();
    for (const text of texts) if (text) counts.set(text, (counts.get(text) || 0) + 1);
    const frequent = [...counts].sort((a, b) => b[1] - a[1]).slice(0, SUGGESTED);
    document.getElementById(list).append(...frequent.map(([text]) => {
      const option = document.createElement("option");
      option.value = text;
      return option;
    }));
  };
  document.getElementById("filters").addEventListener("toggle", () => {
    suggest("names", models.map((model) => model.name));
    suggest("subgroups", models.map((model) => model.subgroup));
    suggest("aliases", models.flatMap((model) => model.aliases));
    suggest("authors", models.flatMap((model) => model.authors));
    suggest("parameters", models.flatMap((model) => model.parameters));
  }, { once: true });

  for (const input of inputs.values()) {
    input.addEventListener("input", () => {
      search();
      remember();
    });
  }
  document.getElementById("reset").addEventListener("click", () => {
    for (const input of inputs.values()) input.value = "";
    search();
    remember();
    inputs.get("words").focus();
  });
  more.addEventListener("click", () => {
    const first = results.childElementCount;
    show(first + SHOWN);
    results.children[first].querySelector("a").focus();
  });
  document.addEventListener("keydown", (event) => {
    const isTyping = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
    if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      inputs.get("words").focus();
    }
  });
  window.addEventListener("hashchange", recall);
  document.getElementById("search").hidden = false;
  recall();
}
