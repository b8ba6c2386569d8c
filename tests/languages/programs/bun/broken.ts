console.log("this is never printed");
const answer: number = = 42; // broken here
console.log(answer);
