// The tap's page begins here: the token, the theme, and either the screen that asks for a token or the tap itself.
import { App } from './app.js';
import { byId, h } from './dom.js';

const TOKEN = 'mcp-ferry-token';
const THEME = 'mcp-ferry-theme';
const UNKNOWN = 'The ferry does not know this token. It makes a new one at every start, unless it was given one.';
let app;

// Takes the token out of the address bar, so that it is not in what people copy; it lives as long as the tab.
function takeToken() {
  const match = /[#&]token=([^&]*)/.exec(location.hash);
  if (!match) return;
  sessionStorage.setItem(TOKEN, decoded(match[1]));
  history.replaceState(null, '', location.pathname + location.search);
}

// A per cent sign that encodes nothing is taken as it is.
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function start() {
  takeToken();
  const token = sessionStorage.getItem(TOKEN);
  if (!token) return ask('This page shows what crosses, so it asks who you are.');
  // What no header can carry is no token.
  if (!/^[\x21-\x7e]+$/.test(token)) return ask(UNKNOWN);
  app?.end();
  byId('entry').hidden = true;
  byId('app').hidden = false;
  app = new App(token, { denied: () => ask(UNKNOWN) });
}

function ask(why) {
  app?.end();
  app = undefined;
  sessionStorage.removeItem(TOKEN);
  byId('app').hidden = true;
  byId('entry').hidden = false;
  byId('entry-why').textContent = why;
  byId('entry-token').value = '';
  byId('entry-token').focus();
}

byId('entry-form').addEventListener('submit', event => {
  event.preventDefault();
  const given = byId('entry-token').value.trim();
  const match = /[#&]token=([^&]*)/.exec(given);
  sessionStorage.setItem(TOKEN, match ? decoded(match[1]) : given);
  start();
});

const THEMES = { system: '◐ system', light: '☀ light', dark: '☾ dark' };
function theme(name) {
  const root = document.documentElement;
  if (name === 'system') delete root.dataset.theme;
  else root.dataset.theme = name;
  const [sign, ...words] = THEMES[name].split(' ');
  byId('theme').replaceChildren(sign, h('span', {}, ` ${words.join(' ')}`));
  localStorage.setItem(THEME, name);
}
const stored = localStorage.getItem(THEME);
theme(Object.hasOwn(THEMES, stored ?? '') ? stored : 'system');
byId('theme').addEventListener('click', () => {
  const names = Object.keys(THEMES);
  const now = document.documentElement.dataset.theme ?? 'system';
  theme(names[(names.indexOf(now) + 1) % names.length]);
});

// A new address with a token, opened in the same tab, changes only the fragment.
addEventListener('hashchange', () => {
  if (/[#&]token=/.test(location.hash)) start();
});
start();
