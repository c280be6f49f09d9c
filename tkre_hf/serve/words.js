// Lets a visitor choose head and tail among a sentence's words, by mouse or by keyboard.
// The value: text, words as [start, end) in it, and head and tail as [first, end) of words, or null.
// A visitor's text reaches the page as textContent alone, never as HTML, and never through a template.
const bar = element.querySelector('.tkre-roles');
const line = element.querySelector('.tkre-choices');
let role = 'head';
let shown = null;

const inside = (range, i) => range && range[0] <= i && i < range[1];

function chosen(range, i) {
  if (!range) return [i, i + 1];
  const [first, end] = range;
  if (i === first - 1) return [i, end];
  if (i === end) return [first, i + 1];
  if (i === first) return end - first === 1 ? null : [first + 1, end];
  if (i === end - 1) return [first, end - 1];
  return [i, i + 1];
}

function choose(i, as) {
  const value = props.value;
  const other = as === 'head' ? 'tail' : 'head';
  const range = chosen(value[as], i);
  const clash = range && value[other] && range[0] < value[other][1] && value[other][0] < range[1];
  props.value = { ...value, [as]: range, [other]: clash ? null : value[other] };
  paint();
}

function build(value) {
  shown = value.text;
  line.replaceChildren();
  let last = 0;
  value.words.forEach(([start, end], i) => {
    line.append(value.text.slice(last, start));
    const button = document.createElement('button');
    button.type = 'button';
    button.dataset.word = i;
    button.textContent = value.text.slice(start, end);
    line.append(button);
    last = end;
  });
}

function paint() {
  const value = props.value;
  if (!value || !value.words) return;
  if (value.text !== shown) build(value);
  for (const button of line.children) {
    const i = Number(button.dataset.word);
    const is = inside(value.head, i) ? 'head' : inside(value.tail, i) ? 'tail' : '';
    button.className = is ? `tkre-${is}` : '';
    button.setAttribute('aria-pressed', is !== '');
    button.setAttribute('aria-label', is ? `${button.textContent}, ${is}` : button.textContent);
  }
  for (const button of bar.querySelectorAll('button')) {
    button.setAttribute('aria-pressed', button.dataset.role === role);
  }
}

bar.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (button) {
    role = button.dataset.role;
    paint();
  }
});
line.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (button) choose(Number(button.dataset.word), role);
});
line.addEventListener('keydown', (event) => {
  const button = event.target.closest('button');
  if (!button || event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.toLowerCase();
  if (key === 'h' || key === 't') choose(Number(button.dataset.word), key === 'h' ? 'head' : 'tail');
  else if (key === 'arrowright') button.nextElementSibling?.focus();
  else if (key === 'arrowleft') button.previousElementSibling?.focus();
  else return;
  event.preventDefault();
});
watch('value', paint);
paint();
