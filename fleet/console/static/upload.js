// Brings files to the server, one after the other, as the browser reads them: nothing is held in memory.
(() => {
  const SESSION = "/api/v1/session", UPLOADS = "/api/v1/uploads";
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];

  function size(length) {
    let unit = 0;
    while (length >= 1024 && unit < units.length - 1) { length /= 1024; unit += 1; }
    return `${unit ? length.toFixed(1) : length} ${units[unit]}`;
  }

  function row(list, file) {
    const line = document.createElement("div"), name = document.createElement("span");
    const bar = document.createElement("progress"), said = document.createElement("span");
    line.className = "ef-uploading";
    name.textContent = file.name.slice(0, 100);
    bar.max = file.size || 1;
    bar.value = 0;
    bar.setAttribute("aria-label", `How much of ${name.textContent} has come`);
    line.append(name, bar, said);
    list.append(line);
    return (sent, words) => { bar.value = sent; said.textContent = words ?? `${size(sent)} of ${size(file.size)}`; };
  }

  // XMLHttpRequest tells how much has gone, which fetch does not.
  function send(team, file, csrf, told) {
    return new Promise((done, failed) => {
      const request = new XMLHttpRequest();
      let sent = 0;
      const cut = () => failed(new Error(
        `The connection was cut when ${size(sent)} of ${size(file.size)} had gone; nothing of ${file.name} was kept. Send it again.`));
      request.open("POST", `${UPLOADS}/${encodeURIComponent(team)}?name=${encodeURIComponent(file.name)}`);
      request.setRequestHeader("Content-Type", "application/octet-stream");
      request.setRequestHeader("X-Edgefleet-Csrf", csrf);
      request.upload.onprogress = (event) => told(sent = event.loaded);
      request.onerror = request.onabort = request.ontimeout = cut;
      request.onload = () => {
        let answer = {};
        try { answer = JSON.parse(request.responseText); } catch { /* Said below. */ }
        if (request.status >= 200 && request.status < 300) return done(answer);
        failed(new Error([answer.detail ?? `The server answered ${request.status}.`, answer.remedy].filter(Boolean).join(". ")));
      };
      request.send(file);
    });
  }

  addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.matches("[data-upload]")) return;
    event.preventDefault();
    const said = form.querySelector("[data-said]"), list = form.querySelector("[data-progress]");
    const button = form.querySelector("[type=submit]"), files = [...form.elements.files.files];
    const room = Number(form.dataset.room), whole = files.reduce((sum, file) => sum + file.size, 0);
    said.textContent = "";
    list.replaceChildren();
    button.disabled = true;
    try {
      if (whole > room) throw new Error(`These are ${size(whole)}, and the server takes ${size(room)} more. Remove uploads that nobody needs.`);
      const answer = await fetch(SESSION, { credentials: "same-origin" });
      if (!answer.ok) throw new Error("Your session is over. Log in again.");
      const { csrf } = await answer.json();
      const team = form.elements.team.value.trim(), brought = [];
      for (const file of files) {
        const told = row(list, file);
        try { brought.push(await send(team, file, csrf, told)); } catch (error) { told(0, "not kept"); throw error; }
        told(file.size, "here");
      }
      const shown = brought.find((one) => one.name.endsWith(".onnx")) ?? brought[0];
      location.assign(`/console/uploads/${shown.team}/${shown.digest}`);
    } catch (error) {
      said.textContent = error.message;
    } finally {
      button.disabled = false;
    }
  });
})();
