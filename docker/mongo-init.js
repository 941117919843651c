// One-shot, harmless when repeated: makes the replica set, and the application's user with what it needs and no more.
const MODULES = ["users", "folders", "documents", "scans", "webhooks", "products", "inventory"];
const PREFIX = process.env.MONGO_DB || "dossier";
const WAIT_MS = 60_000;

const secret = (name) => require("fs").readFileSync(`/run/secrets/${name}`, "utf8").trim();
const admin = db.getSiblingDB("admin");
admin.auth("root", secret("mongo-root-password"));

if (!admin.hello().setName) {
  rs.initiate({ _id: "rs0", members: [{ _id: 0, host: "mongo:27017" }] });
}
for (const start = Date.now(); !admin.hello().isWritablePrimary; sleep(200)) {
  if (Date.now() - start > WAIT_MS) throw new Error("the replica set has no primary");
}

const app = new URL(secret("mongo-url"));
const user = {
  pwd: app.password,
  roles: MODULES.map((module) => ({ role: "readWrite", db: `${PREFIX}_${module}` })),
};
if (admin.getUser(app.username)) admin.updateUser(app.username, user);
else admin.createUser({ user: app.username, ...user });
print("replica set and user are ready");
