console.log("this is never printed");
const answer = = 42; // broken here
console.log(answer);
