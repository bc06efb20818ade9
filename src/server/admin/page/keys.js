// The keyboard. Single letters count only outside fields, and nothing that the browser itself uses is taken.
import { byId } from './dom.js';

const isField = element => element?.matches?.('input, select, textarea') ?? false;

export function keyboard(app, signal) {
  const help = byId('help');
  const toggleHelp = () => (help.open ? help.close() : help.showModal());
  byId('help-button').addEventListener('click', toggleHelp, { signal });

  function escape(target) {
    if (isField(target)) return target.blur();
    const menu = document.querySelector('details.menu[open]');
    if (menu) return (menu.open = false);
    if (app.detail.subject) app.close();
    else if (app.filter.connection) app.setFilter({ connection: '' });
  }

  function enter() {
    if (app.detail.subject) app.detail.content.focus();
    else if (app.list.selected !== undefined) app.openExchange(app.list.selected);
  }

  function sequence() {
    const { subject, tab } = app.detail;
    if (subject?.exchange !== undefined) app.detail.choose(tab === 'sequence' ? 'legs' : 'sequence');
    else if (subject) app.close();
    else if (app.list.selected !== undefined) app.openExchange(app.list.selected, 'sequence');
    else app.openConnection();
  }

  const keys = {
    ...{ j: () => app.step(1), k: () => app.step(-1), ArrowDown: () => app.step(1), ArrowUp: () => app.step(-1) },
    ...{ Home: () => app.toStart(), End: () => app.toEnd(), Enter: enter, s: sequence, p: () => app.pause() },
    ...{ '/': () => byId('q').select(), '?': toggleHelp, e: () => app.setFilter({ errors: !app.filter.errors }) },
  };
  // Inside the pane and on buttons these keys scroll, press and fold.
  const native = new Set(['ArrowDown', 'ArrowUp', 'Home', 'End', 'Enter']);

  addEventListener(
    'keydown',
    event => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || help.open) return;
      if (event.key === 'Escape') return escape(event.target);
      if (isField(event.target) || !Object.hasOwn(keys, event.key)) return;
      const elsewhere = event.target.closest('#detail, button, summary, a, [role=button]');
      if (native.has(event.key) && elsewhere) return;
      event.preventDefault();
      keys[event.key]();
    },
    { signal },
  );
}
