// Everything, once, in order.

startLegend();
startTables();
startScores();
startCurves();
startSpectra();
startMap();
startLive();
