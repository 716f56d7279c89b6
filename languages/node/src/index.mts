// The same objects for `import` and for `require`: an error of the one is an instance of the other's class.
export * from "./index.js";
