// Says what is wrong with Kubernetes manifests and Dockerfiles: check.js FILE...   Nothing, if nothing is.
"use strict";

const fs = require("fs");
const yaml = require("js-yaml");
const dockerfile = require("dockerfile-utils");

const models = { "v1": require("kubernetes-models/v1"), "apps/v1": require("kubernetes-models/apps/v1") };

// VALUE, with each field that is looked at noted in SEEN. The schemas let unknown fields pass, as the API does: but nobody looks at those.
function watched(value, path, seen) {
    if (value === null || typeof value !== "object") {
        return value;
    }
    return new Proxy(value, {
        get(target, name) {
            seen.add(`${path}/${String(name)}`);
            return watched(target[name], `${path}/${String(name)}`, seen);
        },
        ownKeys(target) { // of a map, such as labels
            Object.keys(target).forEach((name) => seen.add(`${path}/${name}`));
            return Reflect.ownKeys(target);
        },
    });
}

function* fieldsOf(value, path) {
    for (const [name, part] of Object.entries(value)) {
        yield `${path}/${name}`;
        if (part !== null && typeof part === "object") {
            yield* fieldsOf(part, `${path}/${name}`);
        }
    }
}

function* manifestFaults(object) {
    const Model = (models[object.apiVersion] || {})[object.kind];
    const seen = new Set(["/apiVersion", "/kind"]);
    if (!Model) {
        yield `no ${object.kind} in ${object.apiVersion}`;
        return;
    }
    try {
        Model.prototype.validate.call(watched(object, "", seen));
    } catch (error) {
        yield `${object.kind}: ${error.message}`;
        return;
    }
    for (const path of fieldsOf(object, "")) {
        if (!seen.has(path)) {
            yield `${object.kind}: unknown field ${path}`;
        }
    }
}

function* faults(file) {
    const text = fs.readFileSync(file, "utf8");
    if (file.endsWith(".yaml")) {
        for (const object of yaml.loadAll(text)) {
            yield* manifestFaults(object);
        }
    } else {
        for (const fault of dockerfile.validate(text)) {
            yield `line ${fault.range.start.line + 1}: ${fault.message}`;
        }
    }
}

for (const file of process.argv.slice(2)) {
    for (const fault of faults(file)) {
        console.log(`${file}: ${fault}`);
        process.exitCode = 1;
    }
}
