// Decodes a picture in the browser and brings it to the size that a graph takes. The server reads pixels, never files.
(() => {
  // A small file can hold a huge picture.
  const MOST = 64e6;
  const fits = {
    stretch: (w, h) => [0, 0, w, h],
    crop: (w, h, width, height) => inside(w, h, width, height, Math.max(w / width, h / height)),
    pad: (w, h, width, height) => inside(w, h, width, height, Math.min(w / width, h / height)),
  };

  function inside(w, h, width, height, scale) {
    return [(w - width * scale) / 2, (h - height * scale) / 2, width * scale, height * scale];
  }

  let drawn = null;

  window.edgefleetPicture = {
    // Draws the picture as it is sent; answers with what is wrong, or nothing.
    async draw(from, onto, { width, height, fit, grey, negative, length }) {
      drawn = null;
      const picture = document.getElementById(from), canvas = document.getElementById(onto);
      // The page shows what was dropped a moment after it has heard of it.
      for (let left = 500; picture.src.length !== length || !picture.complete; left -= 1) {
        if (!left) return "the picture did not come to this page";
        await new Promise((done) => setTimeout(done, 20));
      }
      const w = picture.naturalWidth, h = picture.naturalHeight;
      if (w * h > MOST) return `${w} x ${h} pixels are more than the ${MOST / 1e6} million that are read`;
      try { await picture.decode(); } catch { return "this is no picture that this browser can read"; }
      Object.assign(canvas, { width, height });
      const pen = canvas.getContext("2d", { willReadFrequently: true });
      pen.fillStyle = "#000";
      pen.fillRect(0, 0, width, height);
      pen.imageSmoothingQuality = "high";
      pen.drawImage(picture, ...fits[fit](width, height, w, h));
      const data = pen.getImageData(0, 0, width, height), four = data.data, depth = grey ? 1 : 3;
      drawn = new Uint8Array(width * height * depth);
      for (let from = 0, to = 0; from < four.length; from += 4, to += depth) {
        if (grey) four.fill(Math.round(0.299 * four[from] + 0.587 * four[from + 1] + 0.114 * four[from + 2]), from, from + 3);
        for (let at = 0; at < 3; at += 1) {
          if (negative) four[from + at] = 255 - four[from + at];
          if (at < depth) drawn[to + at] = four[from + at];
        }
      }
      pen.putImageData(data, 0, 0);
      return "";
    },
    // So many of its values from a place on, in base64: a message of the page's connection is bounded.
    part(at, count) {
      if (!drawn) return "";
      let text = "";
      for (const one of drawn.subarray(at, at + count)) text += String.fromCharCode(one);
      return btoa(text);
    },
  };
})();
