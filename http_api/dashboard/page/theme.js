/* Light, dark, or as the system has it. The choice is the only thing that this page stores. */

const NAME = "gaoler-theme";
const NEXT = { "": "light", light: "dark", dark: "" };
const WORD = { "": "Theme: system", light: "Theme: light", dark: "Theme: dark" };

export function connectTheme(button) {
  const show = (theme) => {
    document.documentElement.dataset.theme = theme;
    button.textContent = WORD[theme];
  };
  let theme = kept();
  show(theme);
  button.addEventListener("click", () => {
    theme = NEXT[theme];
    show(theme);
    try {
      localStorage.setItem(NAME, theme);
    } catch {
      // A browser that stores nothing: it holds until the page is closed.
    }
  });
}

function kept() {
  try {
    const theme = localStorage.getItem(NAME) ?? "";
    return theme in NEXT ? theme : "";
  } catch {
    return "";
  }
}
