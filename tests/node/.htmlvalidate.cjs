// What html-validate holds the pages against: the HTML standard, accessibility, and its own advice.
module.exports = {
  root: true,
  extends: ["html-validate:recommended", "html-validate:document"],
};
