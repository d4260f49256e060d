// Starts the page that this script stands in. Nothing is asked of any other address.
(function () {
  "use strict";
  var place = document.getElementById("docs");
  if (place.dataset.page === "swagger") {
    window.SwaggerUIBundle({
      url: place.dataset.document,
      domNode: place,
      deepLinking: true,
      displayRequestDuration: true,
      docExpansion: "list",
      persistAuthorization: false,
      tryItOutEnabled: true,
      validatorUrl: null,
    });
  } else {
    window.Redoc.init(place.dataset.document, { disableSearch: true, hideDownloadButton: false }, place);
  }
})();
