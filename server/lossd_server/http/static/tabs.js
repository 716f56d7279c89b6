// Tabs: one of several buttons is chosen, by mouse or by arrows, as readers know it.

import { element } from "./common.js";

/** Fills a tablist. names: of the tabs; panel: what they show; select: called with the name that is chosen. */
export function makeTabs(list, names, panel, select) {
  const tabs = names.map((name) => element("button", { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": panel.id, text: name }));
  const choose = (i) => {
    tabs.forEach((tab, k) => {
      tab.setAttribute("aria-selected", String(k === i));
      tab.tabIndex = k === i ? 0 : -1;
    });
    panel.setAttribute("aria-labelledby", tabs[i].id);
    select(names[i]);
  };
  tabs.forEach((tab, i) => {
    tab.addEventListener("click", () => choose(i));
    tab.addEventListener("keydown", ({ key }) => {
      const to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: tabs.length - 1 }[key];
      if (to === undefined) return;
      const next = (to + tabs.length) % tabs.length;
      choose(next);
      tabs[next].focus();
    });
  });
  list.replaceChildren(...tabs);
  choose(0);
}
