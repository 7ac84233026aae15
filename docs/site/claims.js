// The filter of the page of claims: by words, by the verdict under one preset or any, and by who says so.
const form = document.querySelector("form[data-claims]");
if (form) {
  const claims = [...document.querySelectorAll(".claims > li")];
  const filter = () => {
    const words = form.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const { verdict, preset, tag } = Object.fromEntries(new FormData(form));
    for (const claim of claims) {
      const verdicts = JSON.parse(claim.dataset.verdicts);
      const shown = preset ? [verdicts[preset]] : Object.values(verdicts);
      const text = claim.textContent.toLowerCase();
      const fits = (!verdict || shown.includes(verdict)) && (!tag || claim.dataset.tag === tag);
      claim.hidden = !(fits && words.every((word) => text.includes(word)));
    }
    const count = claims.filter((claim) => !claim.hidden).length;
    form.querySelector("output").textContent = `${count} of ${claims.length} claims`;
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  filter();
}
