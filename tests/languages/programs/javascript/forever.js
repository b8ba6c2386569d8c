console.log("started");
setInterval(() => {}, 1000);
